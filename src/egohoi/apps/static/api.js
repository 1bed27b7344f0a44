// The server's HTTP API as the page uses it.

export class Problem extends Error {}

async function checked(reply) {
  if (reply.ok) return reply;
  let message = `the server answered with status ${reply.status}`;
  try { message = (await reply.json()).error.message; } catch { /* an answer of something else, such as a proxy */ }
  throw new Problem(message);
}

/** fetch that turns a missing network and refusals into a Problem with one clear line. */
export async function request(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("the server cannot be reached: is it still running?");
  }
  return checked(reply);
}

/** Ask with a form; `words(piece)` is called for each piece of text as it comes. Resolves to the whole response. */
export async function ask(path, form, words, signal) {
  form.set("stream", "true");
  const reply = await request(path, { method: "POST", body: form, signal });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", response = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (!fields.data) continue;
      const data = JSON.parse(fields.data);
      if (fields.event === "text") words(data.text);
      else if (fields.event === "response") response = data;
      else if (fields.event === "error") throw new Problem(data.error.message);
    }
  }
  if (response === null) throw new Problem("the answer was cut off: ask again");
  return response;
}
