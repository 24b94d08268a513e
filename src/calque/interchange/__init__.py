"""In and out of other tools' formats: import, export, and the proof that nothing changed."""
