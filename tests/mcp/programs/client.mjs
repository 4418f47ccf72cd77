// The official TypeScript client at the endpoint MCP_URL with the key MCP_KEY: prints what it received as JSON.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const { MCP_URL, MCP_KEY, MCP_MODE, MCP_QUERY } = process.env;
const client = new Client({ name: "tests", version: "1.0.0" }, { versionNegotiation: { mode: MCP_MODE } });
const requestInit = { headers: { Authorization: `Bearer ${MCP_KEY}` } };
await client.connect(new StreamableHTTPClientTransport(new URL(MCP_URL), { requestInit }));

const { tools } = await client.listTools(); // from now on, the client validates structured results
const { resources } = await client.listResources();
const found = await client.callTool({ name: "search_conversations", arguments: { query: MCP_QUERY } });
const invalid = await client.callTool({ name: "search_conversations", arguments: { limit: 5 } });
const call = async (name, args) => (await client.callTool({ name, arguments: args })).structuredContent;
const { task } = await call("add_task", { title: "Buy milk", description: "Two bottles" });
await call("update_task", { task_id: task.id, title: "Buy oat milk", description: "" });
await call("complete_task", { task_id: task.id });
const titles = async () => (await call("list_tasks", {})).tasks.map((item) => item.title);
const listed = await titles();
await call("delete_task", { task_id: task.id });
const tasks = [...listed, ...(await titles())];
const own = resources.filter((resource) => resource.uri.startsWith("parley:"));
const { contents } = await client.readResource({ uri: own[0].uri });
const unknown = await client.callTool({ name: "no_such_tool", arguments: {} }).then(
  () => "",
  (error) => error.message,
);
const report = {
  version: client.getNegotiatedProtocolVersion(),
  server: client.getServerVersion().name,
  tools: tools.filter((tool) => tool.outputSchema).map((tool) => tool.name),
  templates: (await client.listResourceTemplates()).resourceTemplates.map((item) => item.uriTemplate),
  uris: own.map((resource) => resource.uri),
  text: contents[0].text,
  found: found.structuredContent,
  tasks,
  invalid: invalid.isError,
  unknown,
};
process.stdout.write(JSON.stringify(report));
await client.close();
