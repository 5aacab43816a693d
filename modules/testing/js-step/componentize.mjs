// Makes a component of the step world from JavaScript: node componentize.mjs WIT-DIRECTORY SOURCE OUTPUT

import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { componentize } from "@bytecodealliance/componentize-js";

const [wit, source, output] = process.argv.slice(2);
// The HTTP client is disabled, because the executor offers no HTTP to a step without permission.
const options = { witPath: resolve(wit), worldName: "step", disableFeatures: ["http", "fetch-event"] };
const { component } = await componentize(await readFile(source, "utf8"), options);
await writeFile(output, component);
