"""Starting the processes of a run, on one host or several, and ending them."""
