"""Training a network of Whisper's shape: what is said, who says it, where, and the lesson. It knows no pictures."""
