"""What must hold, one class per invariant, each in words: while it is rough (`safety`), once it is calm (`ending`)."""
