"""What tests begin with: tables, layouts, settings files, incidents; judges no rule."""
