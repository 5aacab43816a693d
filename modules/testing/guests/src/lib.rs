//! Guests for tests: each file in `src/bin` is one program. Most of them misbehave.
