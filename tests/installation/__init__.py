"""Tests the command, the wheel, and runs beside other people's tests."""
