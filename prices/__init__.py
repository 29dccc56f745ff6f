"""The price book's data: `anthropic.json`, read by services.ledger.price_book."""
