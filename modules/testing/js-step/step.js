// A step in JavaScript.

export function run(invocation) {
  const name = invocation.parameters.find((parameter) => parameter.name === "name");
  return { message: undefined, result: `Hello from JavaScript, ${name.value}!`, parameters: [], artifacts: [] };
}
