"""What the commands of bench measure, one file each."""
