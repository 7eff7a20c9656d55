"""Laws: what holds for all inputs, whatever the order; looked for by hypothesis."""
