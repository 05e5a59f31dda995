module httpwasm-go

go 1.24
