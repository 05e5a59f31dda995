// With a file in assembly, Go compiles functions without a body.
