module namespace-go

go 1.24
