"""The price book's data: `anthropic.json`, read by services.runtime.price_book."""
