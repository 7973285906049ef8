"""`mslab doctor`: what this machine is to mslab. Facts are gathered, a training is timed, rules judge (diagnosis)."""
