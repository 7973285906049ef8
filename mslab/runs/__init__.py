"""The run folder, the contract between commands: what a run leaves behind (folder), and its manifest."""
