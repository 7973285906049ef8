"""Training. To be read in this order: loop (the loop), train_step (what it does in a step), trainer (what it is given),
start (a run around it), finetuning (a run that begins from a checkpoint).

freezing, stopping and optimizers are pure parts; monitor says what looks wrong; features and eventlog are extras;
launching is for several workers.
"""
