"""What kernel objects there are on this machine, who uses them, and what limits them: `inventory` and `limits`."""
