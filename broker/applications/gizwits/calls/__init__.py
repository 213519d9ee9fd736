"""The calls of the Open API, a file a subject. Paths, bodies and answers are those that apps' SDKs know."""
