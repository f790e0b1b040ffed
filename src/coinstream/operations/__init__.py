"""One public function each: compare the stores with the log."""
