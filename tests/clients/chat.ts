// A client with generated types: `node chat.ts URL` registers, chats, streams, and reads errors by their codes.
import createClient from "openapi-fetch";
import type { components, paths } from "./parley.ts";

type Schemas = components["schemas"];

declare const process: { argv: string[] };

/** The types of each event's data: the document has them as the content of a string. */
type Data = {
  "turn.started": Schemas["TurnStarted"];
  "turn.restarted": Schemas["TurnRestarted"];
  "message.delta": Schemas["MessageDelta"];
  "message.completed": Schemas["MessageCompleted"];
  "tool.call": Schemas["ToolCall"];
  "tool.result": Schemas["ToolResult"];
  "turn.completed": Schemas["TurnEnded"];
  "turn.cancelled": Schemas["TurnEnded"];
  "turn.failed": Schemas["TurnEnded"] | Schemas["TurnDropped"] | Schemas["TurnGone"];
  "turn.interrupted": Schemas["TurnEnded"] | Schemas["TurnDropped"];
};
type Event = { [Kind in Schemas["TurnEvent"]["event"]]: { id: string; event: Kind; data: Data[Kind] } }[Schemas["TurnEvent"]["event"]];

const message: Schemas["ChatRequest"] = { message: "hello" };
// @ts-expect-error: a message is required
const without: Schemas["ChatRequest"] = {};
// @ts-expect-error: not a role
const role: Schemas["UserRole"] = "owner";

async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<Event> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    const blocks = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
      const data = fields.get("data");
      if (data !== undefined) yield { id: fields.get("id"), event: fields.get("event"), data: JSON.parse(data) } as Event;
    }
  }
}

function check(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

const api = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const account = { email: `client-${crypto.randomUUID()}@example.org`, password: "correct horse battery", name: "Ada" };

const refused = await api.POST("/api/auth/login", { body: { email: account.email, password: account.password } });
check(refused.error, "an unknown account logged in");
check(refused.error.code === "not_authenticated", `unexpected ${refused.error.code}`);

const registered = await api.POST("/api/auth/register", { body: account });
check(registered.data, `not registered: ${registered.error?.detail}`);
const headers = { Authorization: `Bearer ${registered.data.access_token}` };

const invalid = await api.POST("/api/chat", { headers, body: { message: " " } });
check(invalid.error?.code === "invalid_input", "a blank message was accepted");
check(invalid.error.errors?.["message"]?.[0] === "May not be blank.", "no message for the field");

const answered = await api.POST("/api/chat", { headers, body: message });
check(answered.data, `no answer: ${answered.error?.detail}`);
check("message" in answered.data, "a stream was not requested"); // narrows the type: the response may also be a stream
const conversation_id = answered.data.conversation.id;

const streamed = await api.POST("/api/chat", {
  headers,
  body: { ...message, conversation_id, stream: true },
  parseAs: "stream",
});
check(streamed.data, `no stream: ${streamed.error?.detail}`);
let text = "";
let end: Schemas["TurnStatus"] | undefined;
for await (const event of events(streamed.data)) {
  if (event.event === "message.delta") text += event.data.text;
  if (event.event === "turn.completed") end = event.data.turn.status;
}
check(end === "completed" && text.length > 0, `the stream ended as ${end} with ${text.length} characters`);

const page = await api.GET("/api/conversations/{conversation_id}/messages", {
  headers,
  params: { path: { conversation_id }, query: { order: "desc", limit: 1 } },
});
check(page.data?.items[0]?.content === text && page.data.next_cursor !== null, "the page does not begin with the answer");
console.log("chat.ts: all checks passed");
