"""From plans to finished runs: the training loop, one student's run, its loss, optimizer and evaluation."""
