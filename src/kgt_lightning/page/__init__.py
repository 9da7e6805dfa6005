"""The page of kgt serve: pictures dropped into a browser, restored on this machine, and looked into."""
