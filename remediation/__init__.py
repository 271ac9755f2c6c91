"""Makes failing rows whole. The only package that writes to a user's table."""
