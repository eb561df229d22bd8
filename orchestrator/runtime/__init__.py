"""Everything that touches the outside world: Kafka, RocksDB, threads, Faust."""
