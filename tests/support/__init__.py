"""Parts that tests share: real servers, mocks and small helpers."""
