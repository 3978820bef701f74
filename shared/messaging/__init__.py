"""RPC and events over RabbitMQ, in nameko's wire form."""
