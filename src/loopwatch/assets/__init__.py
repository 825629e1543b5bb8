"""What goes with a watched process: dashboards, alert rules, and the forms they are wanted in."""
