"""Answers: views of installed models, the engine that runs them, the Selector."""
