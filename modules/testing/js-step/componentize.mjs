// node componentize.mjs WIT-DIRECTORY SOURCE OUTPUT: makes a component of the step world from JavaScript.

import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { componentize } from "@bytecodealliance/componentize-js";

const [wit, source, output] = process.argv.slice(2);
// Without its HTTP client, which a step may not have unless it is permitted.
const options = { witPath: resolve(wit), worldName: "step", disableFeatures: ["http", "fetch-event"] };
const { component } = await componentize(await readFile(source, "utf8"), options);
await writeFile(output, component);
