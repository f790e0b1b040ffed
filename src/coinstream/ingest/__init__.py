"""From venues, sources and recordings to Kafka."""
