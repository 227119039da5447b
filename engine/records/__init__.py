"""What a run leaves behind: its folder, history, environment, progress lines and TensorBoard curves."""
