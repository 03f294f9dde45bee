// Whether proto/asyncapi.yaml is valid AsyncAPI, and says what the protocol says.
//
// usage: validate-asyncapi.mjs
//
// The parser judges the document. Its examples, and the golden messages in proto/vectors, must then
// be what the schemas allow, and what the codec refuses must not be; its lists of codes must be those
// of proto/README.md, and its SBE templates those of tickwire.xml. Tests in proto hold all of these
// against the code.

import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";

// Packages are installed apart from this file (`make deps`).
const require = createRequire(new URL("../../.deps/npm/", import.meta.url));
const { Parser, DiagnosticSeverity } = require("@asyncapi/parser");
const Ajv = require("ajv");

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
const lines = (path) => read(path).split("\n").filter((line) => line !== "");

let failures = 0;
function fail(message) {
  failures += 1;
  console.error(`error: ${message}`);
}

function expectSame(what, found, expected) {
  for (const line of expected.filter((line) => !found.includes(line))) fail(`${what} lacks ${line}`);
  for (const line of found.filter((line) => !expected.includes(line))) fail(`${what} has ${line}`);
}

// The document.

async function parse() {
  const { document, diagnostics } = await new Parser().parse(read("asyncapi.yaml"));
  for (const { severity, code, message, path, range } of diagnostics) {
    const text = `line ${range.start.line + 1}, ${path.join(".")}: ${message} (${code})`;
    if (severity === DiagnosticSeverity.Error) fail(text);
    else console.warn(`${DiagnosticSeverity[severity].toLowerCase()}: ${text}`);
  }
  if (document === undefined) process.exit(1);
  return document;
}

const document = await parse();

// Strict: a misspelt keyword of a schema is an error, which the parser does not see.
const ajv = new Ajv({ strictTypes: false, allowUnionTypes: true });
ajv.addVocabulary(["x-parser-schema-id"]);
ajv.addFormat("binary", true);

function compile(schema) {
  try {
    return ajv.compile(schema);
  } catch (error) {
    fail(`${error.message}: ${JSON.stringify(schema).slice(0, 200)}`);
    return () => false;
  }
}

const validators = new Map();
function validator(schema) {
  if (!validators.has(schema)) validators.set(schema, compile(schema));
  return validators.get(schema);
}

function checkExample(message, part, schema, example) {
  if (example === undefined) return;
  const validate = validator(schema.json());
  if (!validate(example)) {
    fail(`example of ${message.id()}, ${part}: ${ajv.errorsText(validate.errors)}: ${JSON.stringify(example)}`);
  }
}

function checkExamples() {
  for (const message of document.components().messages().all()) {
    for (const example of message.examples().all()) {
      if (example.hasPayload()) checkExample(message, "payload", message.payload(), example.payload());
      if (example.hasHeaders()) checkExample(message, "headers", message.headers(), example.headers());
    }
  }
}

// Queries are in no message; compiling them finds what is misspelt in them.
function checkSchemas() {
  for (const schema of document.components().schemas().all()) validator(schema.json());
}

// The golden messages.

const ofChannel = (operations, address) =>
  operations.filter((operation) => operation.channels().all()[0].address() === address);

const distinct = (messages) => [...new Map(messages.map((message) => [message.id(), message])).values()];

const received = (...addresses) =>
  distinct(
    addresses
      .flatMap((address) => ofChannel(document.operations().filterByReceive(), address))
      .flatMap((operation) => operation.messages().all()),
  );

// What is sent over the socket, and not over HTTP in place of one.
function sent(...addresses) {
  const of = (operations) => addresses.flatMap((address) => ofChannel(operations, address));
  const messages = of(document.operations().filterBySend()).flatMap((operation) => operation.messages().all());
  const replies = of(document.operations().filterByReceive()).flatMap((operation) => operation.reply().messages().all());
  return distinct([...messages, ...replies]).filter((message) => !message.bindings().has("http"));
}

function matches(messages, value) {
  return messages
    .filter((message) => message.hasPayload() && validator(message.payload().json())(value))
    .map((message) => message.id());
}

// An entry of `symbols` that is no symbol is refused by itself; the schema says what to send.
function withoutBadEntries(request) {
  const symbol = validator(document.components().schemas().get("Selector").json());
  if (!Array.isArray(request.symbols)) return request;
  return { ...request, symbols: request.symbols.filter((entry) => symbol(entry.symbol ?? entry)) };
}

function checkGolden(folder, messages, prepare = (value) => value) {
  for (const file of readdirSync(new URL(`../vectors/json/${folder}`, import.meta.url))) {
    if (!file.endsWith(".jsonl")) continue;
    for (const line of lines(`vectors/json/${folder}/${file}`)) {
      const found = matches(messages, prepare(JSON.parse(line)));
      if (found.length !== 1) fail(`${folder}/${basename(file)} is ${found.join(" and ") || "no message"}: ${line}`);
    }
  }
}

// What a schema does not see: that an opaque text is no cursor, that 250.0 is written as a fraction,
// and that digits need more than 64 bits.
const UNSEEN = [/"cursor":"nonsense"/, /\d\.0[,}]/, /"9223372036854775808"/, /"bid":"9000000000000000000","ask":"0.5"/];

function checkRefused(text, messages) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return;
  }
  const found = matches(messages, value);
  if (found.length > 0 && !UNSEEN.some((unseen) => unseen.test(text))) fail(`refused, but ${found.join(" and ")}: ${text}`);
}

function checkVectors() {
  checkGolden("replies", sent("/v1/ws", "/v1/publish"));
  checkGolden("requests", received("/v1/ws", "/v1/publish"), withoutBadEntries);
  checkGolden("published", received("/v1/publish"));
  const endpoints = { subscribe: received("/v1/ws"), publish: received("/v1/publish") };
  for (const line of lines("vectors/json/requests/refused.txt")) {
    const [, endpoint, text] = line.match(/^(\S+) \S+ \S+ (.*)$/);
    checkRefused(text, endpoints[endpoint]);
  }
  for (const line of lines("vectors/json/published/refused.txt")) {
    checkRefused(line.slice(line.indexOf(" ") + 1), endpoints.publish);
  }
}

// The lists of codes.

// The rows of the tables under a heading of proto/README.md, as cells.
function rows(heading) {
  const [, section] = read("README.md").split(`\n## ${heading}\n`);
  return section
    .split("\n## ")[0]
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) => line.slice(2, -2).split("|").map((cell) => cell.trim()));
}

const bare = (cell) => cell.replaceAll("`", "");
const schema = (name) => document.components().schemas().get(name).json();
const listed = (name) => schema(name).description.split("\n").filter((line) => line.startsWith("- "));

function checkCodes() {
  const errors = rows("Error codes").filter(([code]) => code.startsWith("`"));
  expectSame("ErrorCode", schema("ErrorCode").enum, errors.map(([code]) => bare(code)));
  expectSame("ErrorCode's description", listed("ErrorCode"), errors.map(([code, , , meaning]) => `- ${code}: ${meaning}`));

  const reasons = rows("The account").filter(([reason]) => reason.startsWith("`"));
  expectSame("GapReason", schema("GapReason").enum, reasons.map(([reason]) => bare(reason)));
  expectSame("GapReason's description", listed("GapReason"), reasons.map(([reason, why]) => `- ${reason}: ${why}`));

  // 1006 stands for a peer that vanished and is never sent.
  const closes = rows("Close codes").filter(([code]) => /^\d+$/.test(code) && code !== "1006");
  expectSame("CloseCode", schema("CloseCode").enum, closes.map(([code]) => Number(code)));
  expectSame("CloseLabel", schema("CloseLabel").enum, closes.map(([, label]) => bare(label)));
  expectSame(
    "CloseCode's description",
    listed("CloseCode"),
    closes.map(([code, label, text, client, when]) => `- ${code} ${label}, "${text}", ${client}: ${when}`),
  );

  const answers = rows("HTTP answers").filter(([status]) => /^\d+$/.test(status));
  expectSame("HttpCode", schema("HttpCode").enum, answers.flatMap(([, codes]) => bare(codes).split(", ")));
  const refused = document.components().messages().get("refused").description();
  expectSame(
    "refused's description",
    refused.split("\n").filter((line) => line.startsWith("- ")),
    answers.map(([status, codes]) => `- ${status} ${codes}`),
  );
}

// The SBE templates.

const attribute = (tag, name) => tag.match(new RegExp(`\\s${name}="([^"]*)"`))[1];

function checkSbe() {
  const [head, ...templates] = read("schema/tickwire.xml").split("<sbe:message ");
  const [, root] = head.split("<sbe:messageSchema");
  const [schemaId, version] = ["id", "version"].map((name) => attribute(root, name));
  const expected = templates
    // Nobody meets those of hosts on a WebSocket.
    .filter((tag) => !attribute(` ${tag}`, "description").startsWith("Between hosts only"))
    .map((tag) => ["name", "id", "blockLength"].map((name) => attribute(` ${tag}`, name)))
    .map(([name, id, blockLength]) => [`sbe${name}`, schemaId, version, id, blockLength].join(" "));
  const found = document
    .components()
    .messages()
    .all()
    .filter((message) => message.extensions().has("x-sbe"))
    .map((message) => [message, message.extensions().get("x-sbe").value()])
    .map(([message, sbe]) => [message.id(), sbe.schemaId, sbe.version, sbe.templateId, sbe.blockLength].join(" "));
  expectSame("SBE", found, expected);
}

checkSchemas();
checkExamples();
checkVectors();
checkCodes();
checkSbe();

if (failures > 0) process.exit(1);
console.log("proto/asyncapi.yaml is valid, and says what the protocol says");
