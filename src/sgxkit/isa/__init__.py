"""What the processor manual defines: data only."""
