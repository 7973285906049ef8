"""Training: loop (epochs and steps), train_step (one step), trainer (the loop's state), callbacks (observers).

start begins every training, build makes its parts, finetuning begins from a checkpoint, launching and worker run
several workers. freezing, stopping, learning_rates, losses and optimizers are pure parts; monitor warns when something
looks wrong; features and eventlog are optional.
"""
