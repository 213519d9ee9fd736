"""MQTT: the codec (sans-IO) and the server that Gizwits devices, apps and plain MQTT clients use."""
