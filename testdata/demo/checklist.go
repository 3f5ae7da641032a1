package main

const checklist = ``
