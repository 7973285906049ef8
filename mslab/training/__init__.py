"""Training: loop (the loop), train_step (one step), trainer (what the loop is given), callbacks (what looks on).

start begins every training, build makes what it needs, finetuning is what begins from a checkpoint, launching and
worker are for several workers. freezing, stopping, learning_rates, losses and optimizers are pure parts; monitor says
what looks wrong; features and eventlog are extras.
"""
