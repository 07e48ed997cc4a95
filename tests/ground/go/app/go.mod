// What runs in the pods of a real node: the sandbox of each, and an application.
module ground/app

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.13.0
	golang.org/x/net v0.62.0
)

require (
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	golang.org/x/text v0.43.0 // indirect
)
