"""What the tests share: leak check, processes, hostile surroundings. Real kernel and processes, no mocks."""
