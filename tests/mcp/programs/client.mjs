// The official TypeScript client at the endpoint MCP_URL with the key MCP_KEY: prints what it received as JSON.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const { MCP_URL, MCP_KEY, MCP_MODE, MCP_QUERY } = process.env;
const client = new Client({ name: "tests", version: "1.0.0" }, { versionNegotiation: { mode: MCP_MODE } });
const requestInit = { headers: { Authorization: `Bearer ${MCP_KEY}` } };
await client.connect(new StreamableHTTPClientTransport(new URL(MCP_URL), { requestInit }));

const { resources } = await client.listResources();
const found = await client.callTool({ name: "search_conversations", arguments: { query: MCP_QUERY } });
const invalid = await client.callTool({ name: "search_conversations", arguments: { limit: 5 } });
const own = resources.filter((resource) => resource.uri.startsWith("parley:"));
const { contents } = await client.readResource({ uri: own[0].uri });
const unknown = await client.callTool({ name: "no_such_tool", arguments: {} }).then(
  () => "",
  (error) => error.message,
);
const report = {
  version: client.getNegotiatedProtocolVersion(),
  server: client.getServerVersion().name,
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  templates: (await client.listResourceTemplates()).resourceTemplates.map((item) => item.uriTemplate),
  uris: own.map((resource) => resource.uri),
  text: contents[0].text,
  found: found.structuredContent,
  invalid: invalid.isError,
  unknown,
};
process.stdout.write(JSON.stringify(report));
await client.close();
