"""Coverage-guided fuzzing of everything that reads data of others; see CONTRIBUTING.md."""
