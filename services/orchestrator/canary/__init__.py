"""The running proof that quality holds: some answers are given by the flagship too, and a judge grades both."""
