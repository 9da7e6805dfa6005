"""A folder of runs as one page that opens anywhere: tables, plots and pictures."""
