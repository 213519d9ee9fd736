"""Apps of Gizwits: their users, their side of MQTT, the Open API and the app WebSocket."""
