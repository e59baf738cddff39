"""What the stages that look at pictures share."""
