SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  persistAuthorization: true,
  displayRequestDuration: true,
  validatorUrl: null, // the default would send the document's address to another server
});
