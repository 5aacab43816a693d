// Makes a component of the step world from JavaScript: node componentize.mjs WIT-DIRECTORY SOURCE OUTPUT

import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { componentize } from "@bytecodealliance/componentize-js";

const [wit, source, output] = process.argv.slice(2);
// All features stay enabled, as the tool builds by default. So the component imports an HTTP client, which it never uses.
const options = { witPath: resolve(wit), worldName: "step" };
const { component } = await componentize(await readFile(source, "utf8"), options);
await writeFile(output, component);
