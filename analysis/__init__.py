"""What a teacher's and a student's answers have in common: numbers as pure functions, pictures drawn from them."""
