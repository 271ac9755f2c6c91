"""What tests do as a person would: checks, repairs, rollbacks, whole runs; and reading pages."""
