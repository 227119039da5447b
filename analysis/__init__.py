"""Similarity of a teacher's and a student's predictions and features: pure functions, and pictures of their results."""
