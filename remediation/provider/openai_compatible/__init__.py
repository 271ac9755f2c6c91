"""Asks endpoints that speak as OpenAI's does. The only room that imports `openai`."""
