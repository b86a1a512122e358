//! AI-Factories.
